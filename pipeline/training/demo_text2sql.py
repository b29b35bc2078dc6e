"""Questions about a small shop with right and wrong SQL, and the shop's database. Every wrong statement runs, and gives
other rows than the right one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

SCHEMA = (
    "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);"
    "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, kind TEXT, price INTEGER);"
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id),"
    " product_id INTEGER REFERENCES products(id), quantity INTEGER, day TEXT);"
)
SCHEMA_SHOWN = (
    "customers(id, name, city) products(id, name, kind, price) orders(id, customer_id, product_id, quantity, day)"
)
_CUSTOMERS = (
    ("Anna", "London"), ("Ben", "Paris"), ("Carla", "London"), ("David", "Berlin"), ("小红", "北京"),
    ("小明", "上海"), ("小丽", "北京"), ("小强", "London"),
)  # fmt: skip
_PRODUCTS = (
    ("apple", "fruit", 3), ("banana", "fruit", 2), ("grape", "fruit", 6), ("cabbage", "vegetable", 4),
    ("pumpkin", "vegetable", 7), ("苹果", "水果", 5), ("西瓜", "水果", 8), ("土豆", "蔬菜", 1), ("番茄", "蔬菜", 9),
)  # fmt: skip
_KINDS = ("fruit", "vegetable", "水果", "蔬菜")
_CITIES = ("London", "Paris", "Berlin", "北京", "上海")
_N = (2, 3, 4, 5, 6)
_ORDERS = 40
_SEED = 5

# (questions in English, in Chinese, right SQL, wrong ones, values for {v})
_TASKS: tuple[tuple[tuple[str, ...], tuple[str, ...], str, tuple[str, ...], Sequence[Any]], ...] = (
    (("How many customers live in {v}?", "Count the customers in {v}."),
     ("{v}有多少位顾客？", "统计{v}的顾客人数。"),
     "SELECT COUNT(*) FROM customers WHERE city = '{v}'",
     ("SELECT COUNT(*) FROM customers", "SELECT name FROM customers WHERE city = '{v}'",
      "SELECT COUNT(*) FROM customers WHERE name = '{v}'", "SELECT COUNT(*) FROM customers WHERE city <> '{v}'"),
     _CITIES),
    (("List the names of customers in {v}.", "Who lives in {v}?"),
     ("列出{v}的顾客姓名。", "哪些顾客住在{v}？"),
     "SELECT name FROM customers WHERE city = '{v}'",
     ("SELECT id FROM customers WHERE city = '{v}'", "SELECT name FROM customers WHERE city <> '{v}'",
      "SELECT name FROM customers"),
     _CITIES),
    (("Which products cost more than {v}?", "List products with a price above {v}."),
     ("哪些商品的价格高于{v}？", "列出价格超过{v}的商品。"),
     "SELECT name FROM products WHERE price > {v}",
     ("SELECT name FROM products WHERE price < {v}", "SELECT price FROM products WHERE price > {v}",
      "SELECT name FROM products WHERE id > {v}"),
     _N),
    (("What is the average price of {v}?", "Give the mean price of {v}."),
     ("{v}的平均价格是多少？", "求{v}的平均价格。"),
     "SELECT AVG(price) FROM products WHERE kind = '{v}'",
     ("SELECT SUM(price) FROM products WHERE kind = '{v}'", "SELECT AVG(price) FROM products",
      "SELECT MAX(price) FROM products WHERE kind = '{v}'"),
     _KINDS),
    (("What is the most expensive {v}?", "Name the {v} with the highest price."),
     ("最贵的{v}是什么？", "哪种{v}价格最高？"),
     "SELECT name FROM products WHERE kind = '{v}' ORDER BY price DESC LIMIT 1",
     ("SELECT name FROM products WHERE kind = '{v}' ORDER BY price LIMIT 1",
      "SELECT MAX(price) FROM products WHERE kind = '{v}'", "SELECT name FROM products ORDER BY price DESC LIMIT 1"),
     _KINDS),
    (("How many orders have a quantity of at least {v}?", "Count orders of {v} or more."),
     ("数量不少于{v}的订单有多少？", "统计数量大于等于{v}的订单数。"),
     "SELECT COUNT(*) FROM orders WHERE quantity >= {v}",
     ("SELECT COUNT(*) FROM orders WHERE quantity > {v}", "SELECT SUM(quantity) FROM orders WHERE quantity >= {v}",
      "SELECT COUNT(*) FROM orders WHERE quantity <= {v}"),
     _N),
    (("How many {v} were sold in all?", "What is the total quantity of {v} ordered?"),
     ("{v}一共卖出多少？", "{v}的总销量是多少？"),
     "SELECT SUM(o.quantity) FROM orders o JOIN products p ON o.product_id = p.id WHERE p.kind = '{v}'",
     ("SELECT COUNT(*) FROM orders o JOIN products p ON o.product_id = p.id WHERE p.kind = '{v}'",
      "SELECT SUM(o.quantity) FROM orders o JOIN products p ON o.id = p.id WHERE p.kind = '{v}'",
      "SELECT SUM(quantity) FROM orders"),
     _KINDS),
    (("How many orders came from {v}?", "Count the orders of customers in {v}."),
     ("来自{v}的订单有多少？", "统计{v}顾客的订单数。"),
     "SELECT COUNT(*) FROM orders o JOIN customers c ON o.customer_id = c.id WHERE c.city = '{v}'",
     ("SELECT COUNT(*) FROM customers WHERE city = '{v}'", "SELECT COUNT(*) FROM orders",
      "SELECT COUNT(*) FROM orders o JOIN customers c ON o.product_id = c.id WHERE c.city = '{v}'"),
     _CITIES),
    (("Show the {v} cheapest products.", "List the {v} products with the lowest price."),
     ("列出最便宜的{v}种商品。", "价格最低的{v}种商品是什么？"),
     "SELECT name FROM products ORDER BY price LIMIT {v}",
     ("SELECT name FROM products ORDER BY price DESC LIMIT {v}", "SELECT name FROM products LIMIT {v}",
      "SELECT name FROM products ORDER BY price"),
     _N),
)  # fmt: skip


def write_database(path: Path) -> None:
    """The shop as a SQLite file."""
    with closing(sqlite3.connect(path)) as database:
        _fill(database)


def _fill(database: sqlite3.Connection) -> None:
    rng = Random(_SEED)
    database.executescript(SCHEMA)
    database.executemany("INSERT INTO customers(name, city) VALUES (?, ?)", _CUSTOMERS)
    database.executemany("INSERT INTO products(name, kind, price) VALUES (?, ?, ?)", _PRODUCTS)
    most = (len(_CUSTOMERS), len(_PRODUCTS), 6)
    orders = [(*(rng.randint(1, n) for n in most), f"2026-03-{rng.randint(1, 28):02}") for _ in range(_ORDERS)]
    database.executemany("INSERT INTO orders(customer_id, product_id, quantity, day) VALUES (?, ?, ?, ?)", orders)
    database.commit()


def rows(rng: Random) -> Iterator[dict[str, Any]]:
    """Prompts with the schema, right and wrong SQL, and the database's id."""
    made = []
    with closing(sqlite3.connect(":memory:")) as database:
        _fill(database)
        for english, chinese, right, wrong, values in _TASKS:
            for value, asked in product(values, (*english, *chinese)):
                gold = right.format(v=value)
                result = sorted(map(repr, database.execute(gold)))
                for other in wrong:
                    bad = other.format(v=value)
                    if sorted(map(repr, database.execute(bad))) != result:
                        question = f"{SCHEMA_SHOWN}\n{asked.format(v=value)}"
                        made.append({"prompt": question, "chosen": gold, "rejected": bad, "db_id": "shop"})
    rng.shuffle(made)
    yield from made
