"""What benchmarks/pressure.py and benchmarks/soak.py share: servers, clients, looks into /proc."""
