"""The local platform: the processes that `foundry up` starts and supervises on one machine."""
