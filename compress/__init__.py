"""A trained checkpoint in, a small bundle out: load, prune, distill, quantize, gated by what each step loses."""
