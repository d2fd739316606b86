"""Why a thumbnail is as it is: what its URL means, what is kept of it, what a request would get."""
