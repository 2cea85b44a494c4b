"""What do the papers claim, and what did the experiments find of it?"""
