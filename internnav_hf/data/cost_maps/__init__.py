"""Maps of what it costs to drive somewhere, from point clouds: the planners learn through them."""
