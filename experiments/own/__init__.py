"""What does `experiments.audit` need for a model of the user's own?"""
