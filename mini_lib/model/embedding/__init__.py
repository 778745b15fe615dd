"""Methods of the node model/embedding."""
