// SPDX-License-Identifier: GPL-2.0
/* JSON as it is formed: nothing is kept but which brackets are open. */
#include <string.h>

#include "ngctl.h"

static char closing[16];
static unsigned int depth;
static bool comma;

static void quoted(const char *text, size_t len)
{
	size_t i;

	putchar('"');
	for (i = 0; i < len; i++) {
		unsigned char c = text[i];

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ' || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void begin(const char *key)
{
	if (comma)
		putchar(',');
	if (depth)
		printf("\n%*s", 2 * depth, "");
	if (key) {
		quoted(key, strlen(key));
		fputs(": ", stdout);
	}
	comma = true;
}

void json_open(const char *key, char bracket)
{
	begin(key);
	putchar(bracket);
	closing[depth++] = bracket == '{' ? '}' : ']';
	comma = false;
}

void json_close(void)
{
	depth--;
	if (comma)
		printf("\n%*s", 2 * depth, "");
	putchar(closing[depth]);
	comma = true;
	if (!depth) {
		putchar('\n');
		comma = false;
	}
}

void json_string(const char *key, const char *value)
{
	begin(key);
	quoted(value, strlen(value));
}

/* Each byte is the character of that number. */
void json_bytes(const char *key, const void *bytes, size_t len)
{
	begin(key);
	quoted(bytes, len);
}

void json_number(const char *key, unsigned long long value)
{
	begin(key);
	printf("%llu", value);
}

void json_bool(const char *key, bool value)
{
	begin(key);
	fputs(value ? "true" : "false", stdout);
}
