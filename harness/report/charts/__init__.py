"""A run in pictures. Pure: frames go in, matplotlib figures come out."""
