"""VPC router namespaces, ENIs and security groups on one host."""
