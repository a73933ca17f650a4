"""Collections as they are downloaded, into shards: `semmim-mini prepare`. Begin with `layouts.py`."""
