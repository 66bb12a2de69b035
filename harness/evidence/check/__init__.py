"""The instrument checks itself: known truth in, numbers out."""
