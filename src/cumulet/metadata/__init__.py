"""What a guest may ask about itself at 169.254.169.254, and the same documents as a config drive."""
