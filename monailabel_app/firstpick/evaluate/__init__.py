"""Compare ways to choose on labelled data: fair, resumable, with intervals."""
