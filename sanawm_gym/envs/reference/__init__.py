"""A driving simulator that can be seen through: for training data, and for judging."""
