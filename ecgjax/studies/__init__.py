"""Studies: what the cells of a grid are and what is made of them."""
