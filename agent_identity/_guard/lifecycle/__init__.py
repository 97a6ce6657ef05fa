"""The lifecycle of a guarded call, and its forms: functions, blocks, generators, deferred results."""
