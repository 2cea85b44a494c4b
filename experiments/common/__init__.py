"""What do the experiments have in common?"""
