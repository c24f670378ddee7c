"""Prefect's entry points: ingest, watch, weekly_review, deliver, maintain; prefect is only here.

Thin: each task calls one function of `keywatch.pipeline`. Every flow can be run again: nothing
doubles. ``prefect.yaml`` deploys them with their schedules.
"""
