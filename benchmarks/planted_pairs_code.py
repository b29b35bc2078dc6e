"""Programming tasks: in English, in Chinese, a right solution, one with a mistake; two halves that share none."""

WRITTEN: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "first": (
        (
            "Reverse the words of a sentence in Python.", "用Python把一句话里的单词倒过来。",
            'def reverse_words(text):\n    return " ".join(reversed(text.split()))',
            "def reverse_words(text):\n    return text[::-1]",
        ),
        (
            "Check whether a string is a palindrome, ignoring case and punctuation.",
            "判断一个字符串是不是回文，忽略大小写和标点。",
            "def is_palindrome(text):\n    kept = [c.lower() for c in text if c.isalnum()]\n"
            "    return kept == kept[::-1]",
            "def is_palindrome(text):\n    return text == text[::-1]",
        ),
        (
            "How do I remove duplicates from a list but keep the order?", "怎么给列表去重并保持原来的顺序？",
            "def unique(items):\n    return list(dict.fromkeys(items))",
            "def unique(items):\n    return list(set(items))",
        ),
        (
            "Write a binary search that returns -1 when nothing is found.", "写一个二分查找，找不到返回-1。",
            "def search(items, wanted):\n    low, high = 0, len(items) - 1\n    while low <= high:\n"
            "        middle = (low + high) // 2\n        if items[middle] == wanted:\n            return middle\n"
            "        if items[middle] < wanted:\n            low = middle + 1\n        else:\n"
            "            high = middle - 1\n    return -1",
            "def search(items, wanted):\n    low, high = 0, len(items)\n    while low < high:\n"
            "        middle = (low + high) // 2\n        if items[middle] == wanted:\n            return middle\n"
            "        if items[middle] < wanted:\n            low = middle\n        else:\n"
            "            high = middle\n    return -1",
        ),
        (
            "Count how often each word occurs in a file.", "统计一个文件里每个单词出现的次数。",
            "from collections import Counter\n\ndef words(path):\n    with open(path, encoding='utf-8') as file:\n"
            "        return Counter(file.read().lower().split())",
            "def words(path):\n    counts = {}\n    for word in open(path).read().split():\n"
            "        counts[word] = 1\n    return counts",
        ),
        (
            "Flatten a list of lists of any depth.", "把任意层嵌套的列表展平。",
            "def flat(items):\n    for item in items:\n        if isinstance(item, list):\n"
            "            yield from flat(item)\n        else:\n            yield item",
            "def flat(items):\n    return [x for item in items for x in item]",
        ),
        (
            "Turn a Roman numeral into a number.", "把罗马数字转换成整数。",
            "VALUES = dict(I=1, V=5, X=10, L=50, C=100, D=500, M=1000)\n\ndef roman(text):\n    total = 0\n"
            "    for one, after in zip(text, text[1:] + ' '):\n        value = VALUES[one]\n"
            "        total += -value if value < VALUES.get(after, 0) else value\n    return total",
            "VALUES = dict(I=1, V=5, X=10, L=50, C=100, D=500, M=1000)\n\ndef roman(text):\n"
            "    return sum(VALUES[c] for c in text)",
        ),
        (
            "I want the n-th Fibonacci number without recursion.", "不用递归求第n个斐波那契数。",
            "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
            "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)",
        ),
        (
            "Merge two dictionaries and add the values of keys in both.", "合并两个字典，相同的键把值相加。",
            "from collections import Counter\n\ndef merge(a, b):\n    return dict(Counter(a) + Counter(b))",
            "def merge(a, b):\n    return {**a, **b}",
        ),
        (
            "Retry a function three times with growing pauses.", "把一个函数重试三次，每次等待时间加倍。",
            "import time\n\ndef retry(call, times=3, pause=1.0):\n    for attempt in range(times):\n        try:\n"
            "            return call()\n        except OSError:\n            if attempt == times - 1:\n"
            "                raise\n            time.sleep(pause * 2 ** attempt)",
            "import time\n\ndef retry(call):\n    while True:\n        try:\n            return call()\n"
            "        except:\n            time.sleep(1)",
        ),
        (
            "Read a CSV file with a header into a list of dictionaries.", "读取带表头的CSV文件，得到字典列表。",
            "import csv\n\ndef rows(path):\n    with open(path, newline='', encoding='utf-8') as file:\n"
            "        return list(csv.DictReader(file))",
            "def rows(path):\n    lines = open(path).read().split('\\n')\n    head = lines[0].split(',')\n"
            "    return [dict(zip(head, line.split(','))) for line in lines]",
        ),
        (
            "What does `<|im_start|>` mean in a chat template, and how do I write one?",
            "聊天模板里的 `<|im_start|>` 是什么意思，怎么写？",
            "text = ''\nfor turn in turns:\n"
            "    text += f\"<|im_start|>{turn['role']}\\n{turn['content']}<|im_end|>\\n\"\n"
            "# <|im_start|> opens a turn and <|im_end|> closes it",
            "text = '\\n'.join(turn['content'] for turn in turns)\n# <|im_start|> is only decoration",
        ),
    ),
    "second": (
        (
            "Transpose a matrix given as a list of rows.", "把按行存的矩阵转置。",
            "def transpose(rows):\n    return [list(column) for column in zip(*rows)]",
            "def transpose(rows):\n    return [row[::-1] for row in rows]",
        ),
        (
            "Are two words anagrams of each other?", "判断两个单词是不是变位词。",
            "def anagrams(a, b):\n    return sorted(a.lower()) == sorted(b.lower())",
            "def anagrams(a, b):\n    return set(a) == set(b)",
        ),
        (
            "Split a list into chunks of k elements.", "把列表按k个一组切开。",
            "def chunks(items, k):\n    return [items[i:i + k] for i in range(0, len(items), k)]",
            "def chunks(items, k):\n    return [items[i:i + k] for i in range(len(items) // k)]",
        ),
        (
            "Compute the greatest common divisor by hand.", "不用库函数求最大公约数。",
            "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
            "def gcd(a, b):\n    return min(a, b)",
        ),
        (
            "Find all files below a folder that are larger than ten megabytes.", "找出文件夹下所有大于十兆的文件。",
            "from pathlib import Path\n\ndef large(folder):\n"
            "    return [p for p in Path(folder).rglob('*') if p.is_file() and p.stat().st_size > 10_000_000]",
            "import os\n\ndef large(folder):\n"
            "    return [f for f in os.listdir(folder) if os.path.getsize(f) > 10]",
        ),
        (
            "A class for a bank account that refuses to go below zero.", "写一个银行账户类，余额不能小于零。",
            "class Account:\n    def __init__(self):\n        self.balance = 0\n\n    def withdraw(self, amount):\n"
            "        if amount > self.balance:\n            raise ValueError('not enough money')\n"
            "        self.balance -= amount",
            "class Account:\n    balance = 0\n\n    def withdraw(self, amount):\n        self.balance -= amount",
        ),
        (
            "Measure how long a block of code takes.", "测量一段代码运行了多久。",
            "from contextlib import contextmanager\nfrom time import perf_counter\n\n@contextmanager\ndef timed():\n"
            "    start = perf_counter()\n    yield\n    print(perf_counter() - start)",
            "import time\n\nstart = time.time\n# run the code\nprint(time.time - start)",
        ),
        (
            "Which weekday was a date given as a string like 2021-03-14?", "像2021-03-14这样的日期是星期几？",
            "from datetime import date\n\ndef weekday(text):\n    return date.fromisoformat(text).strftime('%A')",
            "def weekday(text):\n    return int(text[-2:]) % 7",
        ),
    ),
}  # fmt: skip
