"""Where a handler runs: in the turn, in a task, in a thread or in a worker process."""
