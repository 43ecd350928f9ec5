# SPDX-License-Identifier: BSD-3-Clause
"""C and C++ as far as the checks need it: tokens, matching brackets, and what each brace opens.

No preprocessor: directives are taken out (Source.includes keeps the #include lines), and code under
#if and #else is read as if both were there, which works as long as each branch closes its braces.
"""

import bisect
import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<comment>//(?:[^\n\\]|\\.|\\\n)*|/\*.*?\*/)
      | (?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)")
      | (?P<string>(?:u8|[uUL])?"(?:[^"\\\n]|\\.)*"|(?:u8|[uUL])?'(?:[^'\\\n]|\\.)*')
      | (?P<directive>^[ \t]*\#(?:[^\n\\/]|\\.|\\\n|/(?!/))*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<number>\.?\d(?:[\w.]|'\w|[eEpP][+-])*)
      | (?P<sign>::|->|&&|\|\||<<=?|[-+*/%&|^=!<>]=|\+\+|--|\.\.\.|[^\s\w])""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_QUALIFIERS = {"const", "noexcept", "override", "final", "mutable", "volatile", "try", "&", "&&"}
_RECORDS = {"class", "struct", "union", "enum"}
_CONTROL = {"if", "for", "while", "switch", "catch", "constexpr"}
# After one of these a '[' begins a lambda and not an index.
_BEFORE_LAMBDA = set("(,=;{}?:!+-*/%|<>&") | {"&&", "||", "return", "co_return", "co_await", "co_yield",
                                               "==", "!=", "<=", ">=", "<<", "->", "+=", "-="}


@dataclass
class Token:
    text: str
    kind: str
    line: int


@dataclass
class Scope:
    """What one pair of braces holds. kind: namespace, record, function, lambda, block or init."""

    kind: str
    head: int  # the first token of what stands before the brace
    open: int
    close: int
    parent: "Scope | None"
    captures: str = ""

    def function(self):
        """The innermost function or lambda that this scope is in or is; None outside of any."""
        scope = self
        while scope and scope.kind not in ("function", "lambda"):
            scope = scope.parent
        return scope


class BadBrackets(Exception):
    pass


class Source:
    def __init__(self, text):
        self.tokens = []
        self.includes = []  # (line, '<' or '"', name)
        self.comments = {}  # last line of a comment -> its text
        starts = [0] + [m.end() for m in re.finditer("\n", text)]
        for found in _TOKEN.finditer(text):
            kind = found.lastgroup
            line = bisect.bisect_right(starts, found.start())
            if kind == "comment":
                self.comments[line + found.group().count("\n")] = found.group()
            elif kind == "directive":
                include = _INCLUDE.match(found.group())
                if include:
                    self.includes.append((line, include.group(1), include.group(2)))
            else:
                kind = "string" if kind in ("raw", "mark") else kind
                self.tokens.append(Token(found.group(), kind, line))
        self.match = self._match_brackets()
        self._lambdas = self._find_lambdas()
        self.scopes = []
        self.scope_of = [None] * len(self.tokens)  # innermost; a brace belongs to its own scope
        self._find_scopes()

    def text(self, begin, end):
        return " ".join(token.text for token in self.tokens[begin:end])

    def _match_brackets(self):
        match, stack = {}, []
        for i, token in enumerate(self.tokens):
            if token.kind != "sign":
                continue
            if token.text in _CLOSES:
                stack.append(i)
            elif token.text in ")]}":
                if not stack or _CLOSES[self.tokens[stack[-1]].text] != token.text:
                    raise BadBrackets(f"line {token.line}: '{token.text}' closes nothing")
                match[i] = stack.pop()
                match[match[i]] = i
        if stack:
            raise BadBrackets(f"line {self.tokens[stack[-1]].line}: a bracket is never closed")
        return match

    def _find_lambdas(self):
        """The '{' of each lambda's body -> its captures."""
        bodies = {}
        for i, token in enumerate(self.tokens):
            if token.text != "[" or token.kind != "sign":
                continue
            before = self.tokens[i - 1].text if i else ";"
            end = self.match[i]
            if before not in _BEFORE_LAMBDA or self.tokens[i + 1].text == "[" or before == "[":
                continue
            at = end + 1
            # Template parameters, parameters, specifiers, the returned type.
            while at < len(self.tokens) and self.tokens[at].text not in ("{", ";", ",", "]", ")", "}", "="):
                at = self.match[at] + 1 if self.tokens[at].text in "([" else at + 1
            if at < len(self.tokens) and self.tokens[at].text == "{":
                bodies[at] = self.text(i + 1, end)
        return bodies

    def _find_scopes(self):
        scope = None
        for i, token in enumerate(self.tokens):
            if token.text == "{" and token.kind == "sign":
                head = self.head_of(i)
                kind = self._kind_of(i, head, scope)
                scope = Scope(kind, head, i, self.match[i], scope, self._lambdas.get(i, ""))
                self.scopes.append(scope)
            self.scope_of[i] = scope
            if scope and i == scope.close:
                scope = scope.parent

    def head_of(self, i):
        """Where the statement begins that token i is part of, inside the innermost bracket."""
        at = i - 1
        while at >= 0:
            text = self.tokens[at].text
            if self.tokens[at].kind == "sign":
                if text in ";([{":
                    break
                if text == "}" and not self._continues(at):
                    break
                if text == ":" and self.tokens[at - 1].text in ("public", "private", "protected", "default"):
                    break
            at = self.match[at] - 1 if text in ")]}" and self.tokens[at].kind == "sign" else at - 1
        return at + 1

    def _continues(self, close):
        """Whether a statement goes on after this '}': it closed an initializer, not a block."""
        following = self.tokens[close + 1].text if close + 1 < len(self.tokens) else ""
        return following in (",", ")", ".", ";", "=", "?", ":", "->", "[", "(", "{") and bool(
            re.match(r"[\w>,=(\]]", self.tokens[self.match[close] - 1].text[-1:])
        )

    def _kind_of(self, i, head, parent):
        if i in self._lambdas:
            return "lambda"
        if self.tokens[head].text == "template":
            head = self._after_angles(head + 1)
        words = [token.text for token in self.tokens[head:i]]
        if "namespace" in words or words[:1] == ["extern"] and len(words) == 2:
            return "namespace"
        outer = self._without_brackets(head, i)
        last = words[-1] if words else ";"
        if parent and parent.kind in ("function", "lambda", "block", "init"):
            local = _RECORDS & set(outer) and "(" not in outer and "=" not in outer
            return "record" if local else self._kind_in_code(i, outer, last, parent)
        if "=" in outer and "operator" not in outer:
            return "init"
        if _RECORDS & set(outer) and last != ")":
            return "record"
        if "(" not in outer:
            return "init"
        if ":" in outer and re.fullmatch(r"\w+|>", last) and last not in _QUALIFIERS:
            return "init"  # a member in a constructor's list
        return "function"

    def _kind_in_code(self, i, outer, last, parent):
        if parent.kind == "init" or outer and outer[0] == "return":
            return "init"
        if last in ("else", "do", "try") or last == ":" and "?" not in outer:
            return "block"
        if not outer:
            return "block" if self.tokens[i - 1].text in (";", "{", "}", ":") else "init"
        # The last form is a macro that makes a loop.
        loop = _CONTROL & set(outer) or len(outer) == 3
        return "block" if last == ")" and loop and "=" not in outer else "init"

    def _after_angles(self, at):
        """Behind the <...> that begins at token `at`."""
        depth = 0
        while at < len(self.tokens):
            text = self.tokens[at].text
            depth += (text == "<") - (text == ">")
            at = self.match[at] if text == "(" else at
            at += 1
            if depth == 0:
                return at
        return at

    def _without_brackets(self, begin, end):
        """The words, with what is in brackets left out but the brackets there."""
        words, at = [], begin
        while at < end:
            words.append(self.tokens[at].text)
            if at in self.match and self.match[at] > at and self.match[at] < end:
                at = self.match[at]
                words.append(self.tokens[at].text)
            at += 1
        return words
