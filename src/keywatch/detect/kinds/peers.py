"""What keys like this one call: expected endpoints, by non-negative matrix factorisation.

Lee and Seung 1999; with the Kullback-Leibler loss it is the maximum-likelihood fit of a Poisson
model of counts (Cichocki and Phan 2009).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_MOST_WAYS_OF_USE = 12
_ITERATIONS = 30
_FEWEST_KEYS = 20
"""With fewer keys there are no peers to learn from."""
_LEAST_SHARE = 0.001
_MOST_CELLS = 4 * 1024 * 1024
"""Keys times endpoints whose shares are in memory at once: 32 MiB, however many keys there are."""
_SCHEMA = pa.schema([("key_id", pa.string()), ("endpoint", pa.string()), ("share", pa.float64())])


def expected_endpoints(used: pa.Table) -> pa.Table:
    """How probable it is that a key calls an endpoint, by the keys that are used like it.

    `used` has a row (key_id, endpoint) for each endpoint that a key has called. The result has
    key_id, endpoint and share (0 to 1) for every pair with a share that is worth a word; it is
    empty where there are too few keys.
    """
    keys = used["key_id"].combine_chunks().dictionary_encode()
    endpoints = used["endpoint"].combine_chunks().dictionary_encode()
    shape = (len(keys.dictionary), len(endpoints.dictionary))
    if shape[0] < _FEWEST_KEYS or shape[1] < 2:
        return _SCHEMA.empty_table()
    # scikit-learn takes a second to load: only where there is something to fit.
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import NMF

    matrix = csr_matrix(
        (np.ones(len(used)), (keys.indices.to_numpy(), endpoints.indices.to_numpy())), shape
    )
    model = NMF(
        # Far fewer than there are endpoints, or each key would be its own way of use.
        max(1, min(_MOST_WAYS_OF_USE, min(shape) // 3)),
        beta_loss="kullback-leibler",
        solver="mu",
        init="nndsvda",
        max_iter=_ITERATIONS,
        tol=0.0,
        random_state=0,
    )
    ways = model.fit_transform(matrix)
    parts = []
    keys_at_once = max(1, _MOST_CELLS // shape[1])
    for first in range(0, shape[0], keys_at_once):
        share = np.minimum(ways[first : first + keys_at_once] @ model.components_, 1.0)
        key, endpoint = np.nonzero(share >= _LEAST_SHARE)
        parts.append(
            pa.table(
                [
                    keys.dictionary.take(pa.array(first + key)),
                    endpoints.dictionary.take(pa.array(endpoint)),
                    pa.array(share[key, endpoint]),
                ],
                schema=_SCHEMA,
            )
        )
    return pa.concat_tables(parts)
