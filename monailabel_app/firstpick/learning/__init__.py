"""What the labels so far teach: drafts of masks, how sure they are, and when readers may stop."""
