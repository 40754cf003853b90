// SPDX-License-Identifier: GPL-2.0
/* ngctl top */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ngctl.h"

#define SECTOR		512
#define MAX_CTRLS	256

/**
 * struct counts - what has been counted of a node since the machine booted
 * @reads: reads of the block device
 * @writes: writes of the block device
 * @read_bytes: bytes read
 * @write_bytes: bytes written
 * @flying: requests in flight now
 * @openers: processes that have the node open now
 * @pinned: what these have pinned now, bytes
 * @last_pid: the process that was counted last
 */
struct counts {
	unsigned long long reads;
	unsigned long long writes;
	unsigned long long read_bytes;
	unsigned long long write_bytes;
	unsigned long long flying;
	unsigned int openers;
	unsigned long long pinned;
	int last_pid;
};

struct sample {
	struct node *nodes;
	struct counts *counts;
	unsigned int n;
	unsigned long long interrupts[MAX_CTRLS];
	struct timespec when;
};

/* A process counts once, however many descriptors it has. */
static void count_opener(const struct node *node, const struct opener *opener,
			 void *arg)
{
	struct sample *s = arg;
	struct counts *c = &s->counts[node - s->nodes];

	if (c->last_pid == opener->pid)
		return;
	c->last_pid = opener->pid;
	c->openers++;
	c->pinned += opener->pinned;
}

static void count_interrupts(struct sample *s)
{
	FILE *file = fopen("/proc/interrupts", "re");
	char *line = NULL, *at, *end;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0) {
		unsigned int ctrl, queue;

		at = strrchr(line, ' ');
		if (!at || sscanf(at, " nvme%uq%u", &ctrl, &queue) != 2 ||
		    ctrl >= MAX_CTRLS)
			continue;
		/* a number for each processor, then the name of the chip */
		at = strchr(line, ':');
		for (at = at ? at + 1 : line; ; at = end) {
			unsigned long long number = strtoull(at, &end, 10);

			if (end == at || (*end != ' ' && *end != '\n'))
				break;
			s->interrupts[ctrl] += number;
		}
	}
	if (file)
		fclose(file);
	free(line);
}

static void take(struct sample *s)
{
	char line[256];
	unsigned int i;

	memset(s, 0, sizeof(*s));
	clock_gettime(CLOCK_MONOTONIC, &s->when);
	s->n = find_nodes(&s->nodes);
	s->counts = must_alloc(s->n * sizeof(*s->counts));
	for (i = 0; i < s->n; i++) {
		struct counts *c = &s->counts[i];

		if (!*s->nodes[i].block ||
		    !read_line(line, sizeof(line), "/sys/class/block/%s/stat",
			       s->nodes[i].block))
			continue;
		sscanf(line, "%llu %*u %llu %*u %llu %*u %llu %*u %llu", &c->reads,
		       &c->read_bytes, &c->writes, &c->write_bytes, &c->flying);
		c->read_bytes *= SECTOR;
		c->write_bytes *= SECTOR;
	}
	find_openers(s->nodes, s->n, count_opener, s);
	count_interrupts(s);
}

static const struct counts *find_counts(const struct sample *s,
					const struct node *node)
{
	static const struct counts none;
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		if (s->nodes[i].dev == node->dev &&
		    !strcmp(s->nodes[i].name, node->name))
			return &s->counts[i];
	}
	return &none;
}

/* How much more there is now, for each second. */
static unsigned long long rate(unsigned long long now, unsigned long long then,
			       double seconds)
{
	return now > then ? (now - then) / seconds + 0.5 : 0;
}

static void show(const struct sample *now, const struct sample *then)
{
	double seconds = now->when.tv_sec - then->when.tv_sec +
			 (now->when.tv_nsec - then->when.tv_nsec) / 1e9;
	unsigned int i;

	if (json) {
		json_open(NULL, '{');
		json_open("nodes", '[');
	} else {
		if (isatty(STDOUT_FILENO))
			fputs("\033[H\033[J", stdout);
		printf("%-14s %9s %9s %12s %12s %6s %5s %11s\n", "NODE",
		       "READ/s", "WRITE/s", "READ KiB/s", "WRITE KiB/s",
		       "FLYING", "OPEN", "PINNED KiB");
	}
	for (i = 0; i < now->n; i++) {
		const struct counts *c = &now->counts[i];
		const struct counts *b = find_counts(then, &now->nodes[i]);
		unsigned long long values[] = {
			rate(c->reads, b->reads, seconds),
			rate(c->writes, b->writes, seconds),
			rate(c->read_bytes, b->read_bytes, seconds),
			rate(c->write_bytes, b->write_bytes, seconds),
		};

		if (json) {
			json_open(NULL, '{');
			json_string("node", now->nodes[i].path);
			json_number("reads", values[0]);
			json_number("writes", values[1]);
			json_number("read_bytes", values[2]);
			json_number("write_bytes", values[3]);
			json_number("flying", c->flying);
			json_number("openers", c->openers);
			json_number("pinned", c->pinned);
			json_close();
		} else {
			printf("%-14s %9llu %9llu %12llu %12llu %6llu %5u %11llu\n",
			       now->nodes[i].path, values[0], values[1],
			       values[2] / 1024, values[3] / 1024, c->flying,
			       c->openers, c->pinned / 1024);
		}
	}
	if (json) {
		json_close();
		json_open("controllers", '[');
	} else {
		printf("\n%-14s %12s\n", "CONTROLLER", "INTERRUPTS/s");
	}
	for (i = 0; i < MAX_CTRLS; i++) {
		char name[16];
		unsigned long long value = rate(now->interrupts[i],
						then->interrupts[i], seconds);

		if (!now->interrupts[i])
			continue;
		snprintf(name, sizeof(name), "nvme%u", i);
		if (json) {
			json_open(NULL, '{');
			json_string("controller", name);
			json_number("interrupts", value);
			json_close();
		} else {
			printf("%-14s %12llu\n", name, value);
		}
	}
	if (json) {
		json_close();
		json_close();
	} else if (!isatty(STDOUT_FILENO)) {
		putchar('\n');
	}
	fflush(stdout);
}

int cmd_top(int argc, char **argv)
{
	unsigned long interval = 2, count = 0;
	struct sample now, then;
	int i;

	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--interval") && i + 1 < argc)
			interval = number(argv[++i], 86400, "--interval");
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = number(argv[++i], 1UL << 30, "--count");
		else
			die("top takes no '%s': see ngctl top --help", argv[i]);
	}
	if (!interval)
		die("--interval must be 1 second or more");
	take(&then);
	while (!ferror(stdout)) {
		sleep(interval);
		take(&now);
		show(&now, &then);
		free(then.nodes);
		free(then.counts);
		then = now;
		if (count && !--count)
			break;
	}
	return 0;
}
