// SPDX-License-Identifier: GPL-2.0
/*
 * What a test program leaves behind: run with --mark before it, with --check
 * after it.
 *
 * Compared are the pages that are pinned, the memory that the kernel has for
 * itself, who uses the modules, the controllers and the namespaces with their
 * state, descriptor memory in use, and what is mapped through an IOMMU.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watch.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/nvme_leftovers"
#define IOMMU		INSTANCE "/events/iommu"

/* What the kernel keeps for later in slabs and tables, by experience. */
#define MEMORY_BOUND_KB	(24 << 10)

/* seconds that what ends in its own time gets */
#define PATIENCE	15

#define MAX_NAMES	4096

/**
 * struct state - what there is at one time
 * @pins: pages
 * @memory_kb: of the kernel's own
 * @translated: an IOMMU translates for the controllers
 * @mapped: bytes mapped through it since the mark, beside @pools
 * @pools: bytes of descriptor memory that controllers have
 * @used: pieces of it that are in use
 * @modules: references to the modules
 * @names: controllers, their state, and nodes, a line each
 */
struct state {
	unsigned long pins;
	long memory_kb;
	bool translated;
	long long mapped;
	long long pools;
	unsigned int used;
	char modules[64];
	char names[MAX_NAMES];
};

static bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "r");
	bool ok = f && fgets(line, size, f);

	if (f)
		fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok;
}

static bool tell(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	bool ok = f && fputs(text, f) >= 0;

	return f && !fclose(f) && ok;
}

/* The sum of the keys of a histogram. */
static long long sum_of(const char *event)
{
	char path[128], line[256];
	long long sum = 0, key, hits, dropped;
	FILE *f;

	snprintf(path, sizeof(path), IOMMU "/%s/hist", event);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		char *at = strchr(line, ':');

		if (line[0] == '{' && at &&
		    sscanf(at, ": %lld } hitcount: %lld", &key, &hits) == 2)
			sum += key * hits;
		else if (sscanf(line, "    Dropped: %lld", &dropped) == 1 &&
			 dropped)
			nt_die("%s drops events", path);
	}
	if (f)
		fclose(f);
	return sum;
}

/* Histograms of an instance, which nobody else looks at. */
static void start_counting(void)
{
	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		return;
	tell(IOMMU "/map/trigger", "hist:keys=size");
	tell(IOMMU "/unmap/trigger", "hist:keys=unmapped_size");
}

static void stop_counting(void)
{
	tell(IOMMU "/map/trigger", "!hist:keys=size");
	tell(IOMMU "/unmap/trigger", "!hist:keys=unmapped_size");
	rmdir(INSTANCE);
}

/* A line for each pool: name, in use, all, bytes of one, pages. */
static void add_pools(struct state *s, const char *ctrl)
{
	unsigned long used, all, size, pages;
	char path[PATH_MAX], line[256], name[16];
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/class/nvme/%s/device/iommu_group/type", ctrl);
	/* DMA, or DMA-FQ for lazy; identity passes through */
	if (read_line(path, line, sizeof(line)) && !strncmp(line, "DMA", 3))
		s->translated = true;
	snprintf(path, sizeof(path), "/sys/class/nvme/%s/device/pools", ctrl);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%16c %lu %lu %lu %lu", name, &used, &all,
			   &size, &pages) != 5)
			continue;
		s->used += used;
		s->pools += (long long)pages * NT_PAGE;
	}
	if (f)
		fclose(f);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The entries of a class in order, with what a file in each says. */
static void add_names(struct state *s, const char *class, const char *attr)
{
	char path[PATH_MAX], line[64], *names[256], *at;
	DIR *dir = opendir(class);
	struct dirent *e;
	size_t i, n = 0;

	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || n == ARRAY_SIZE(names))
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", class, e->d_name,
			 attr);
		if (!read_line(path, line, sizeof(line)))
			line[0] = 0;
		if (asprintf(&names[n], "%s %s\n", e->d_name, line) < 0)
			nt_die("no memory");
		n++;
		if (!strcmp(class, "/sys/class/nvme"))
			add_pools(s, e->d_name);
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(names[0]), by_text);
	at = s->names + strlen(s->names);
	for (i = 0; i < n; i++) {
		at += snprintf(at, s->names + sizeof(s->names) - at, "%s",
			       names[i]);
		if (at >= s->names + sizeof(s->names))
			nt_die("too many names");
		free(names[i]);
	}
}

static void look(struct state *s)
{
	char nvme[16] = "?", core[16] = "?";

	memset(s, 0, sizeof(*s));
	s->pins = nt_pins();
	s->memory_kb = nt_kernel_kb();
	read_line("/sys/module/nvme/refcnt", nvme, sizeof(nvme));
	read_line("/sys/module/nvme_core/refcnt", core, sizeof(core));
	snprintf(s->modules, sizeof(s->modules), "nvme %s, nvme-core %s", nvme,
		 core);
	add_names(s, "/sys/class/nvme", "state");
	add_names(s, "/sys/class/nvme-generic", "dev");
	if (s->translated)
		s->mapped = sum_of("map") - sum_of("unmap") - s->pools;
}

/* What is not as it was, NULL if nothing is. */
static const char *difference(const struct state *was, const struct state *is)
{
	if (is->pins != was->pins)
		return "pinned pages";
	if (strcmp(is->modules, was->modules))
		return "references to modules";
	if (strcmp(is->names, was->names))
		return "controllers and nodes";
	if (is->used > was->used)
		return "descriptor memory in use";
	if (is->mapped != was->mapped)
		return "what is mapped through the IOMMU";
	if (is->memory_kb > was->memory_kb + MEMORY_BOUND_KB)
		return "memory of the kernel";
	return NULL;
}

static void show(const char *when, const struct state *s)
{
	char *line, *names = strdup(s->names);

	nt_note("%s: %lu pages pinned, %ld KiB of the kernel, %u descriptors,",
		when, s->pins, s->memory_kb, s->used);
	nt_note("  %lld bytes mapped, references: %s", s->mapped, s->modules);
	for (line = strtok(names, "\n"); line; line = strtok(NULL, "\n"))
		nt_note("  %s", line);
	free(names);
}

/* Only our driver has this attribute; others are not what is tested. */
static bool is_ours(void)
{
	DIR *dir = opendir("/sys/class/nvme-generic");
	char path[PATH_MAX];
	struct dirent *e;
	bool found = false;

	while (dir && !found && (e = readdir(dir))) {
		snprintf(path, sizeof(path),
			 "/sys/class/nvme-generic/%s/max_transfer", e->d_name);
		found = !access(path, F_OK);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void save(const char *path, struct state *s)
{
	FILE *f = fopen(path, "w");

	start_counting();
	look(s);
	if (!f || fwrite(s, sizeof(*s), 1, f) != 1 || fclose(f))
		nt_die("cannot write %s: %m", path);
}

static int compare(const char *path)
{
	struct state was, is;
	FILE *f = fopen(path, "r");
	const char *what = NULL;
	int i;

	if (!f || fread(&was, sizeof(was), 1, f) != 1)
		nt_die("cannot read %s: %m", path);
	fclose(f);
	unlink(path);
	for (i = 0; i < PATIENCE * 10; i++) {
		look(&is);
		what = difference(&was, &is);
		if (!what)
			break;
		usleep(100000);
	}
	stop_counting();
	if (!what)
		return 0;
	nt_note("left behind: %s", what);
	show("before", &was);
	show("after", &is);
	return 1;
}

int main(int argc, char **argv)
{
	struct state s;

	if (argc != 3 || (strcmp(argv[1], "--mark") &&
			  strcmp(argv[1], "--check"))) {
		fputs("usage: leftovers --mark FILE | --check FILE\n\n"
		      "Note in FILE what there is, or compare.  Root.\n"
		      "exit status: 0 nothing is left behind, 1 something is,\n"
		      "2 wrong usage, 4 the driver is not ours\n", stderr);
		return 2;
	}
	if (!is_ours())
		return 4;
	if (!strcmp(argv[1], "--check"))
		return compare(argv[2]);
	save(argv[2], &s);
	return 0;
}
