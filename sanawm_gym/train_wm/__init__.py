"""Training of world models: the stages of the recipe and the loop they share."""
