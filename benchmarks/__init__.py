"""What the service costs, measured from outside; README.rst beside this says how."""
