"""One module a library: each offers `build(problem, chains) -> Contender`."""
