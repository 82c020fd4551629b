"""Foreign drives into recordings: `sanawm-gym ingest`."""
