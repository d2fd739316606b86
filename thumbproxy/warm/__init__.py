"""Makes renditions before they are requested."""
