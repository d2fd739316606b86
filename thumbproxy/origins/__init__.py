"""Origins: where source images come from."""
