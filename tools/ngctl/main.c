// SPDX-License-Identifier: GPL-2.0
/* ngctl: nodes of NVMe namespaces for people and shell scripts. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ngctl.h"

bool json;

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "list", cmd_list,
	  "ngctl list [--json]\n\n"
	  "The nodes of all namespaces: serial number, NSID, command set, format,\n"
	  "largest transfer, what you may do with the node, and the driver.\n" },
	{ "info", cmd_info,
	  "ngctl info NODE [--json]\n\n"
	  "All that is known of one node, such as /dev/ng0n1, or ng0n1.\n" },
	{ "who", cmd_who,
	  "ngctl who [NODE] [--json]\n\n"
	  "Which processes have nodes open, or registered with a ring, and how much\n"
	  "memory they have pinned. Without privilege you see your own ones.\n" },
	{ "kv", cmd_kv,
	  "ngctl kv store NODE KEY [FILE] [--new | --replace]\n"
	  "ngctl kv retrieve NODE KEY [FILE]\n"
	  "ngctl kv delete NODE KEY\n"
	  "ngctl kv exist NODE KEY\n"
	  "ngctl kv list NODE [--json]\n\n"
	  "Commands of the Key Value command set. KEY has 1 to 16 bytes; hex:6b6579 is\n"
	  "the key of these bytes. store takes the value from FILE or standard input,\n"
	  "retrieve writes it to FILE or standard output, list prints all keys.\n\n"
	  "  --new      store only if the key does not exist\n"
	  "  --replace  store only if the key exists\n\n"
	  "exit status: 1 if there is no such key, or with --new if there is; to delete one\n"
	  "that does not exist is no error, unless the controller says so.\n" },
	{ "doctor", cmd_doctor,
	  "ngctl doctor [NODE] [--opcode N [--admin] [--cdw10 N]] [--json]\n\n"
	  "What stands in the way, and what to do: whether the driver is nvme-ng, why\n"
	  "there is no node, why you may not open it, why memory cannot be mapped\n"
	  "beforehand. exit status: 1 if there is something.\n\n"
	  "  --opcode N  who may send this I/O command to NODE, and by which rule\n"
	  "  --admin     it is an admin command\n"
	  "  --cdw10 N   its CNS, Feature Identifier or Log Page Identifier, default 0\n" },
	{ "top", cmd_top,
	  "ngctl top [--interval S] [--count N] [--json]\n\n"
	  "Every S seconds (default 2): reads and writes that the block layer counts,\n"
	  "interrupts of each controller, and who has nodes open. Commands on ring\n"
	  "queues make neither. Ends after N times, or with ^C.\n" },
};

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("ngctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_BAD);
}

void die_call(const char *what, enum nvmeng_call call, int result)
{
	if (result < 0)
		die("%s: %s: %s", what, strerror(-result),
		    nvmeng_explain(call, result));
	die("%s: NVMe status %03xh, %s", what, (unsigned int)result,
	    nvmeng_explain(call, result));
}

void *must_alloc(size_t size)
{
	void *memory = calloc(1, size ? size : 1);

	if (!memory)
		die("no memory for %zu bytes", size);
	return memory;
}

unsigned long number(const char *text, unsigned long max, const char *what)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || !*text || *end || *text == '-' || value > max)
		die("%s must be a number up to %lu, not '%s'", what, max, text);
	return value;
}

static void usage(void)
{
	puts("usage: ngctl list | info | who | kv | doctor | top [ARGUMENT]...\n\n"
	     "  list     the nodes of all namespaces\n"
	     "  info     all that is known of one\n"
	     "  who      who has them open\n"
	     "  kv       store, retrieve, list and delete values by key\n"
	     "  doctor   what stands in the way, and what to do\n"
	     "  top      a running view\n\n"
	     "'ngctl COMMAND --help' tells more, 'ngctl --version' the version.");
}

int main(int argc, char **argv)
{
	size_t c;
	int i, n;

	if (argc < 2)
		die("no command given: see ngctl --help");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		usage();
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("ngctl " VERSION);
		return 0;
	}
	for (c = 0; c < ARRAY_SIZE(commands); c++) {
		if (!strcmp(argv[1], commands[c].name))
			break;
	}
	if (c == ARRAY_SIZE(commands))
		die("there is no command '%s': see ngctl --help", argv[1]);
	/* --json and --help may stand anywhere before "--" */
	for (i = n = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--"))
			break;
		if (!strcmp(argv[i], "--json")) {
			json = true;
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			printf("usage: %s", commands[c].help);
			return 0;
		} else {
			argv[n++] = argv[i];
		}
	}
	while (i < argc)
		argv[n++] = argv[i++];
	argv[n] = NULL;
	n = commands[c].run(n - 2, argv + 2);
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the output: %s", strerror(errno));
	return n;
}
