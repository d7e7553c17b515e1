"""Training: photos to a model, in three stages."""
