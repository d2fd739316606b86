"""Where an engine does its work: in threads of this process, or in processes of their own."""
