"""Programs that run in processes of their own and answer commands: see `tests.benchmarks._workers`."""
