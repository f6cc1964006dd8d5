"""Speed and memory, measured so that a shared machine cannot lie: `lorakit bench`."""
