"""The benchmark: tasks, protocols, runner, store, ladder."""
