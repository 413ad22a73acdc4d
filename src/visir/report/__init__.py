"""Layer 4: figures and the HTML report, read from the files of a run."""
