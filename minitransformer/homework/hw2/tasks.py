"""The tasks of assignment 2, in the order in which they are asked."""

from minitransformer.homework.tasks import Task

split_heads = Task("hw2.split_heads", points=2)
merge_heads = Task("hw2.merge_heads", points=2)
multi_head = Task("hw2.MultiHeadAttention", points=6)
attention_maps = Task("hw2.attention_maps", points=3)
count_parameters = Task("hw2.count_parameters", points=2)
cross = Task("hw2.cross", points=2)
prune = Task("hw2.prune", points=3)
grouped = Task("hw2.GroupedQueryAttention", points=0)
