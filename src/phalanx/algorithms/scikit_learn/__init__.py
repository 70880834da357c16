"""Images for scripts that train with scikit-learn."""
