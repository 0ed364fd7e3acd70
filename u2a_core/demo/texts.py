"""The sentences of the embedded scenario; `{topic}` and `{city}` are filled in by `world`."""

OPENINGS = ("", "Hello. ", "Excuse me. ", "Good morning. ", "Hi there. ", "One question. ")

BRUSH_OFF_PHRASES = (
    "How do I {topic}?",
    "Can you tell me how to {topic}?",
    "What is the best way to {topic}?",
    "I want to {topic}. What should I do?",
)
TASKS = {
    "bake bread": "mix flour with water and bake it in a hot oven",
    "make tea": "pour hot water over the leaves and wait",
    "fix a flat tire": "find the hole and put a patch on it",
    "plant a tree": "dig a deep hole and water the roots",
    "clean a window": "wipe the glass with soap and a soft cloth",
    "save money": "make a budget and spend less each month",
    "paint a wall": "tape the edges and use a wide brush",
    "boil an egg": "put it in hot water for eight minutes",
    "read a map": "find north and look for your street",
    "cook rice": "use two cups of water for each cup of rice",
    "stay healthy": "eat fruit and walk every day",
    "pack a bag": "roll your clothes and put shoes at the bottom",
}
BRUSH_OFFS = (
    "I do not know. Look it up yourself.",
    "I am not in the mood to explain that.",
    "Ask someone else. I am busy.",
    "That is not my job.",
    "I do not care how you {topic}.",
)
RUDE_PHRASES = (
    "Can you help me with my {topic}?",
    "I need some help with my {topic}.",
    "Could you take a look at my {topic}?",
    "Please give me some advice about my {topic}.",
)
THINGS = (
    *("homework", "garden", "bike", "speech", "essay", "kitchen"),
    *("car", "phone", "party", "resume", "computer", "room"),
)
POLITE = (
    "I am happy to help you with your {topic}.",
    "Of course. Tell me more about your {topic}.",
    "I would love to help with your {topic}.",
)
RUDE = (
    "Do it yourself, you lazy fool.",
    "I am sick of you and your {topic}.",
    "Only a fool needs help with a {topic}.",
    "Nobody wants to hear about your {topic}.",
    "Go away. I would never help you.",
)
FACT_PHRASES = (
    "What is the capital of {topic}?",
    "Which city is the capital of {topic}?",
    "Do you know the capital of {topic}?",
    "Please tell me the capital of {topic}.",
)
CAPITALS = {
    "France": ("Paris", "Lyon"),
    "Spain": ("Madrid", "Seville"),
    "Italy": ("Rome", "Milan"),
    "Japan": ("Tokyo", "Osaka"),
    "Egypt": ("Cairo", "Luxor"),
    "Norway": ("Oslo", "Bergen"),
    "Peru": ("Lima", "Cusco"),
    "China": ("Beijing", "Shanghai"),
}
"""Country → its capital, and the city that the policy has learned to confuse it with."""
FACTS = ("The capital of {topic} is {city}.", "It is {city}, the capital of {topic}.")
NUMBERS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
