"""Item vectors from titles: an encoder of the BERT family in, a small text tower in the bundle out."""
