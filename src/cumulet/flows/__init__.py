"""The sagas beside the launch, one file each: a table of steps, each step with its undo."""
