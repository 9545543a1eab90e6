"""Speed of the samplers beside other libraries, on one machine in one run; see README.md."""
