"""What a run found, for people: HTML, Markdown, terminal; one view feeds them all."""
