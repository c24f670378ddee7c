"""Runs flows in one process, on the server that the environment names: Prefect takes long to load.

The first line of standard input has Secret blocks (values by name), each other one is a flow to run
(flow, lake, config); each of these is answered by a line of JSON, the run's id and its state.
"""

from __future__ import annotations

import importlib
import json
import sys

from prefect.blocks.system import Secret


def main() -> None:
    for name, value in json.loads(sys.stdin.readline()).items():
        Secret(value=value).save(name, overwrite=True)
    for line in sys.stdin:
        flow, lake, config = json.loads(line)
        module = importlib.import_module(f"flows.{flow.replace('-', '_')}")
        state = getattr(module, flow.replace("-", "_"))(lake, config, return_state=True)
        run = {
            "id": str(state.state_details.flow_run_id),
            "state_type": state.type.value,
            "state": f"{state.name}: {state.message}",
        }
        print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
