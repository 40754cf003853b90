// SPDX-License-Identifier: GPL-2.0
/* ngctl kv */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ngctl.h"

#define SC_NO_KEY	0x087
#define SC_KEY_EXISTS	0x089

static struct {
	const char *path;
	struct nvmeng *dev;
	struct io_uring ring;
	unsigned char key[NVMENG_KEY_MAX];
	size_t key_len;
	const char *key_name;
} kv;

static void open_node(const char *name, int flags)
{
	struct node node;
	int ret;

	find_node(name, &node);
	kv.path = strdup(node.path);
	ret = nvmeng_open(kv.path, flags, &kv.dev);
	if (ret)
		die_call(kv.path, NVMENG_OPEN, ret);
	if (nvmeng_limits(kv.dev)->csi != NVMENG_CSI_KV)
		die("%s is not a Key Value namespace, but of the command set %02Xh: 'ngctl list' tells", kv.path, nvmeng_limits(kv.dev)->csi);
	ret = nvmeng_ring_init(1, &kv.ring, 0);
	if (ret)
		die_call("io_uring", NVMENG_RING, ret);
}

/* Text is the key as it is; hex:6b6579 is the key of these bytes. */
static void parse_key(const char *text)
{
	unsigned int byte;
	size_t i, len = strlen(text);

	kv.key_name = text;
	if (!strncmp(text, "hex:", 4)) {
		text += 4;
		len -= 4;
		if (len % 2)
			die("the key %s has half a byte", kv.key_name);
		len /= 2;
	}
	if (!len || len > NVMENG_KEY_MAX)
		die("a key has 1 to %u bytes, not %zu", NVMENG_KEY_MAX, len);
	for (i = 0; i < len; i++) {
		if (text == kv.key_name) {
			kv.key[i] = text[i];
			continue;
		}
		if (!isxdigit((unsigned char)text[2 * i]) ||
		    !isxdigit((unsigned char)text[2 * i + 1]))
			die("the key %s is not hexadecimal", kv.key_name);
		sscanf(text + 2 * i, "%2x", &byte);
		kv.key[i] = byte;
	}
	kv.key_len = len;
}

/* What is not as parse_key() would take it is printed as hex. */
static void print_key(const unsigned char *key, size_t len)
{
	bool plain = len < 4 || memcmp(key, "hex:", 4);
	size_t i;

	for (i = 0; i < len; i++)
		plain = plain && isgraph(key[i]);
	if (plain) {
		printf("%.*s\n", (int)len, key);
		return;
	}
	fputs("hex:", stdout);
	for (i = 0; i < len; i++)
		printf("%02x", key[i]);
	putchar('\n');
}

/* One command: true if it was done, false if the key was not as it had to be. */
static bool run(__u64 *value)
{
	int ret = nvmeng_run(&kv.ring, value);

	if (ret == SC_NO_KEY || ret == SC_KEY_EXISTS)
		return false;
	if (ret)
		die_call(kv.path, NVMENG_COMMAND, ret);
	return true;
}

static __u32 max_value(void)
{
	const struct nvme_ng_limits *lim = nvmeng_limits(kv.dev);

	if (lim->max_value_len && lim->max_value_len < lim->max_transfer)
		return lim->max_value_len;
	return lim->max_transfer;
}

static int no_key(void)
{
	fprintf(stderr, "ngctl: %s: there is no key %s\n", kv.path, kv.key_name);
	return EXIT_NO;
}

static struct nvmeng_data buffer(size_t len)
{
	struct nvmeng_data data = { .len = len };
	void *memory;

	if (posix_memalign(&memory, 4096, len ? len : 1))
		die("no memory for %zu bytes", len);
	data.addr = (uintptr_t)memory;
	return data;
}

static int store(const char *path, unsigned int options)
{
	__u32 max = max_value();
	struct nvmeng_data data = buffer((size_t)max + 1);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	size_t len = 0;
	ssize_t got;

	if (!path)
		path = "standard input";
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	do {
		got = read(fd, (char *)(uintptr_t)data.addr + len, max + 1 - len);
		if (got < 0)
			die("%s: %s", path, strerror(errno));
		len += got;
	} while (got && len <= max);
	if (len > max)
		die("%s has more than the %u bytes that a value can have here",
		    path, max);
	data.len = len;
	nvmeng_prep_store(io_uring_get_sqe(&kv.ring), kv.dev, len ? &data : NULL,
			  kv.key, kv.key_len, options);
	if (run(NULL))
		return 0;
	if (options & NVMENG_STORE_NEW) {
		fprintf(stderr, "ngctl: %s: there is a key %s already\n",
			kv.path, kv.key_name);
		return EXIT_NO;
	}
	return no_key();
}

static int retrieve(const char *path)
{
	struct nvmeng_data data = buffer(max_value());
	const char *at = (const char *)(uintptr_t)data.addr;
	int fd = STDOUT_FILENO;
	ssize_t done;
	__u64 size;

	nvmeng_prep_retrieve(io_uring_get_sqe(&kv.ring), kv.dev, &data, kv.key,
			     kv.key_len);
	if (!run(&size))
		return no_key();
	size &= 0xffffffff;
	if (size > data.len)
		die("%s: the value has %llu bytes, more than the %u that one command can move here", kv.path, (unsigned long long)size, data.len);
	/* not before the value is there: a file is not lost for nothing */
	if (path)
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	else
		path = "standard output";
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	while (size) {
		done = write(fd, at, size);
		if (done < 0)
			die("%s: %s", path, strerror(errno));
		at += done;
		size -= done;
	}
	if (fd != STDOUT_FILENO && close(fd))
		die("%s: %s", path, strerror(errno));
	return 0;
}

/* Each list begins with the last key of the one before. */
static int list(void)
{
	struct nvmeng_data data = buffer(4096);
	unsigned char last[NVMENG_KEY_MAX];
	struct nvmeng_list at;
	size_t len, last_len = 0;
	const void *key;
	bool more;

	if (json)
		json_open(NULL, '[');
	do {
		memset((void *)(uintptr_t)data.addr, 0, data.len);
		nvmeng_prep_list(io_uring_get_sqe(&kv.ring), kv.dev, &data, last,
				 last_len);
		if (!run(NULL))
			break;
		nvmeng_list_init(&at, (void *)(uintptr_t)data.addr, data.len);
		more = false;
		while ((len = nvmeng_list_next(&at, &key))) {
			if (len == last_len && !memcmp(key, last, len))
				continue;
			if (json)
				json_bytes(NULL, key, len);
			else
				print_key(key, len);
			memcpy(last, key, len);
			last_len = len;
			more = true;
		}
	} while (more);
	if (json)
		json_close();
	return 0;
}

int cmd_kv(int argc, char **argv)
{
	static const struct {
		const char *name;
		int flags;
		int min;
		int max;
	} verbs[] = {
		{ "store", O_RDWR, 2, 3 },
		{ "retrieve", O_RDONLY, 2, 3 },
		{ "delete", O_RDWR, 2, 2 },
		{ "exist", O_RDONLY, 2, 2 },
		{ "list", O_RDONLY, 1, 1 },
	};
	unsigned int options = 0;
	bool words = false;
	size_t v;
	int i, n;

	if (!argc)
		die("kv takes store, retrieve, delete, exist or list: see ngctl kv --help");
	for (v = 0; v < ARRAY_SIZE(verbs); v++) {
		if (!strcmp(argv[0], verbs[v].name))
			break;
	}
	if (v == ARRAY_SIZE(verbs))
		die("kv has no '%s': see ngctl kv --help", argv[0]);
	for (i = n = 1; i < argc; i++) {
		if (words || argv[i][0] != '-')
			argv[n++] = argv[i];
		else if (!strcmp(argv[i], "--"))
			words = true;
		else if (!v && !strcmp(argv[i], "--new"))
			options |= NVMENG_STORE_NEW;
		else if (!v && !strcmp(argv[i], "--replace"))
			options |= NVMENG_STORE_REPLACE;
		else
			die("kv %s has no option '%s': see ngctl kv --help",
			    verbs[v].name, argv[i]);
	}
	argv++;
	n--;
	if (n < verbs[v].min || n > verbs[v].max ||
	    options == (NVMENG_STORE_NEW | NVMENG_STORE_REPLACE))
		die("kv %s has other arguments: see ngctl kv --help",
		    verbs[v].name);
	if (n > 1)
		parse_key(argv[1]);
	open_node(argv[0], verbs[v].flags);
	switch (v) {
	case 0:
		return store(n > 2 ? argv[2] : NULL, options);
	case 1:
		return retrieve(n > 2 ? argv[2] : NULL);
	case 2:
		nvmeng_prep_delete(io_uring_get_sqe(&kv.ring), kv.dev, kv.key,
				   kv.key_len);
		return run(NULL) ? 0 : no_key();
	case 3:
		nvmeng_prep_exist(io_uring_get_sqe(&kv.ring), kv.dev, kv.key,
				  kv.key_len);
		return run(NULL) ? 0 : EXIT_NO;
	default:
		return list();
	}
}
