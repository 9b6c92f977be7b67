"""The worker: takes job ids from the queue, keeps a lease in the database, lets a child process do the training."""
