"""The conversations that chat templates are compared on."""

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather",
        "description": "Tells today's weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city's name, e.g. \"Zürich\""},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 1},
                "exact": {"type": ["boolean", "null"]},
            },
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "now", "description": "The time <b>now</b> & here.",
        "parameters": {"type": "object", "properties": {}}}},
]

CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call00001", "type": "function",
     "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "exact": True, "ratio": 0.5}}}]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"temperature\": 21.5}"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

CONTEXTS = {
    "question": {"messages": [user("What is 1 + 1?")], "add_generation_prompt": True},
    "answer": {"messages": [user("Hello, who are you?"), assistant("I am a model.\n\nAsk me <anything> \"you\" like: ü 中文 🙂")],
               "add_generation_prompt": False},
    "turns": {"messages": [system("  Be brief.\n"), user("One"), assistant("<think>\nhm\n</think>\n\nTwo"), user("Three"),
                           assistant("Four"), user(" Five \n")],
              "add_generation_prompt": True},
    "tools": {"messages": [system("Use tools."), user("How warm is it in Zürich?"), CALL, RESULT,
                           assistant("It is 21.5 degrees."), user("Thanks. And tomorrow?")],
              "tools": TOOLS, "add_generation_prompt": True},
    "two_questions": {"messages": [user("First?"), user("Second?")], "add_generation_prompt": True},
}

# Beyond the five: what callers of transformers also pass.
MORE_CONTEXTS = {
    "defaults": {"messages": [user("Hi")], "add_generation_prompt": False, "tools": None, "documents": None},
    "thinking": {"messages": [user("Hi"), assistant("Yes?"), user("Go")], "add_generation_prompt": True,
                 "enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
    "no_thinking": {"messages": [user("Hi")], "add_generation_prompt": True, "enable_thinking": False, "thinking": False},
    "reasoning": {"messages": [user("Hi"), {"role": "assistant", "content": "Yes.", "reasoning_content": "They greet.\n",
                                            "reasoning": "They greet.", "thinking": "They greet."}, user("So?")],
                  "add_generation_prompt": True},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image"},
                                                        {"type": "text", "text": " what?"}]}],
              "add_generation_prompt": True},
    "text_arguments": {"messages": [user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [
        {"id": "abcdefghi", "type": "function", "function": {"name": "now", "arguments": "{\"a\": [1, 2.0, null]}"}},
        {"id": "abcdefghj", "type": "function", "function": {"name": "now", "arguments": {}}}]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "noon"},
        {"role": "tool", "tool_call_id": "abcdefghj", "content": {"time": [12, 0]}}],
        "tools": TOOLS, "add_generation_prompt": True},
    "no_messages": {"messages": [], "add_generation_prompt": True},
    "no_system_role": {"messages": [{"role": "nobody", "content": "?"}], "add_generation_prompt": False},
    "documents": {"messages": [system("S"), user("Q")], "add_generation_prompt": True,
                  "documents": [{"doc_id": 1, "title": "A title", "text": "Some text.", "content": "Some content."},
                                {"doc_id": 2, "title": "B", "text": "", "content": ""}]},
    "developer": {"messages": [{"role": "developer", "content": "D"}, user("Q"), assistant("A")],
                  "add_generation_prompt": False, "continue_final_message": False},
}
