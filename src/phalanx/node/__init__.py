"""What one host does for one instance: composes network, ipsec, runtime and data; knows no AWS shapes and no database."""
