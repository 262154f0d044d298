/* Stdio, `frames: length`: a program in plain C that lives as long as its session. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_payload(const char *length, size_t *size) {
    *size = strcmp(length, "-") == 0 ? 0 : strtoul(length, NULL, 10);
    char *data = malloc(*size + 1);
    if (data == NULL || fread(data, 1, *size, stdin) != *size)
        exit(1);
    return data;
}

static int count_words(const char *text, size_t size) {
    int words = 0, inside = 0;
    for (size_t i = 0; i < size; i++) {
        int space = isspace((unsigned char)text[i]);
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

int main(void) {
    char line[128];
    while (fgets(line, sizeof line, stdin)) { /* "TASK 17 5\n", "ENTER -\n", "LEAVE -\n" */
        char *verb = strtok(line, " \n"), *length = NULL;
        for (char *word; (word = strtok(NULL, " \n")) != NULL;)
            length = word;
        if (verb == NULL || length == NULL)
            return 1;
        size_t size;
        char *data = read_payload(length, &size);
        char answer[16] = "";
        if (strcmp(verb, "TASK") == 0)
            snprintf(answer, sizeof answer, "%d", count_words(data, size));
        free(data);
        printf("OK %zu\n%s", strlen(answer), answer);
        fflush(stdout);
    }
    return 0;
}
