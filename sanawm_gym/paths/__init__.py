"""Camera paths: read, written, composed, checked and plotted before anything is rendered."""
