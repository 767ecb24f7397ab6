"""What tests of whole lives share: a small world with people, an archive, a broker and a cluster."""
